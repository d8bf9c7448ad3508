"""The whole program against servers that misbehave: the promises a person relies on."""
