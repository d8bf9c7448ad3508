"""Crashes on purpose: at named points, at random times, and with sick disks."""
