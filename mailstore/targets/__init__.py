"""What mail can be exported to: a Maildir++ or mbox files."""
