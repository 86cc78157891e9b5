"""The data channel as a value: pure classes that take bytes and a clock and give bytes, events and deadlines."""
