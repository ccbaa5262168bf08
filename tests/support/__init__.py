"""What the tests share: running masters, terminals, browsers, disks that fail."""
