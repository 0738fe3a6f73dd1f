"""Pages for people, and what draws their pictures."""
