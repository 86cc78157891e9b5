# fish completion of smp: smp completion fish | source

function __smp_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l typed (commandline --current-token --cut-at-cursor)
    for line in (_SMP_COMPLETE=fish smp $words[2..-1] "$typed" 2>/dev/null)
        set -l parts (string split --max 2 \t -- $line)
        switch $parts[1]
            case plain part  # a word that ends with a colon is followed by no blank
                printf '%s\t%s\n' $parts[2] "$parts[3]"
            case dir
                printf '%s\n' "$parts[2]"(__fish_complete_directories (string replace -- "$parts[2]" "" "$typed"))
            case file
                printf '%s\n' "$parts[2]"(__fish_complete_path (string replace -- "$parts[2]" "" "$typed"))
        end
    end
end

complete --command smp --no-files --keep-order --arguments "(__smp_complete)"
