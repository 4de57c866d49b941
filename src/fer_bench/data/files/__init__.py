"""What is on the disk: archives and folders, neither of which is trusted.

`archive` unpacks a download, whose format `archive_formats` knows. `folders` walks what was
unpacked, `links` decides which symbolic links to follow, `file_names` tells images from the rest.
"""
