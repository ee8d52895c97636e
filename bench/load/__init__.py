"""The load programs. Each says what it is ready for, and then what it measured, in one line of JSON on its output."""
