"""What judges the store and shows what it did: simulator, checker, oracles, the story of a trace and its page."""
