"""Sick disks, small limits, broken networks, odd servers, jumping clocks: what the program does then."""
