"""What all programs of cyrus-sync share."""

__version__ = "0.1.0"
