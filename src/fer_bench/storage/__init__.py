"""Files, locks and the cache, safe against kills, full disks and other processes.

`files` writes atomically; `locks` is the only owner of file locks; `replacement` replaces several
files or a folder at once; `cache`, `array_cache` and `array_file` keep what can be computed again;
`delimited` reads the tables of other programs.
"""
