"""What the operations of the sandbox's APIs do: one module for each service, or part of one."""
