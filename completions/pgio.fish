complete --keep-order --exclusive --command pgio --arguments "(PGIO_COMPLETE=fish pgio -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
