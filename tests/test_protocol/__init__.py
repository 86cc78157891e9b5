"""Tests of the core alone: without sockets, clocks or waiting."""
