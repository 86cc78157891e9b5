"""Calls to AWS with botocore. Importing this package imports nothing else."""
