"""Days of simulated time with the real engine, and a judge that reads only the server's log."""
