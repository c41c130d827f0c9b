"""What people look at: the live view, report files, exports."""
