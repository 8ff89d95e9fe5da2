"""Where stored files are: one adapter for local folders, memory, S3, GCS and Azure, on obstore."""
