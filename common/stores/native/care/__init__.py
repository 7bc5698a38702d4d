"""What is done to whole owners, from outside of any transaction of theirs."""
