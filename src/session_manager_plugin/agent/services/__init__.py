"""The operations of the sandbox's APIs: one module for each service, or part of a service."""
