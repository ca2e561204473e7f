"""The mount: archives as a file system of the kernel, read-only, through FUSE."""
