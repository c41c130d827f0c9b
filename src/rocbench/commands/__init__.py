"""One file a group of commands: parse, call, show. Nothing here computes."""
