"""Places that keep whole objects under names: an S3 server, or a directory. `open_objects` gives one."""
