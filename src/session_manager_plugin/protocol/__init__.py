"""The protocol of the data channel: pure classes that take bytes and the time, and return bytes, events and
deadlines."""
