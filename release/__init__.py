"""What is made from the sources once and kept beside them: manual pages in roff, and shell completions.

``python -m release`` writes them into ``share/`` of the checkout that it stands in; ``--check`` only says
which are not in step (exit 1). An installation needs none of the libraries that make them.
"""
