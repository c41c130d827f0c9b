"""Output for people: the live view, report files, exports."""
