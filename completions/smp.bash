# bash completion of smp: eval "$(smp completion bash)"

_smp() {
    local type word meaning name files=
    local typed=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=()
    while IFS=$'\t' read -r type word meaning; do
        case $type in
            plain) COMPREPLY+=("${word#--*=}") ;;
            part) COMPREPLY+=("$word"); compopt -o nospace 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            file) files=yes; compopt -o default 2>/dev/null ;;
        esac
    done < <(_SMP_COMPLETE=bash "${1/#\~/$HOME}" "$typed" 2>/dev/null)
    if [[ $files && ${#COMPREPLY[@]} -gt 0 ]]; then
        while IFS= read -r name; do
            if [[ -d $name ]]; then word=/; else word=' '; fi
            printf -v name %q "$name"
            COMPREPLY+=("$name$word")
        done < <(compgen -f -- "$2")
    fi
}

# bash 3 and some of 4 know no nosort.
complete -o nosort -F _smp smp 2>/dev/null || complete -o default -F _smp smp
