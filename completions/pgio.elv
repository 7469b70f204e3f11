
set edit:completion:arg-completer[pgio] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) PGIO_COMPLETE="elvish" pgio -- $@words) | to-lines
}

