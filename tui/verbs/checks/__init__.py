"""What `vramble doctor` looks at; every check returns Findings and never raises."""
