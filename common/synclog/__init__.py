"""The action log: its lines (`lines`), the file and its locks (`log`), who writes it (`writer`)."""
