"""Calls to AWS, by botocore. Importing this package imports nothing else."""
