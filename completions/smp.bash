# bash completion of smp: eval "$(smp completion bash)"

_smp() {
    local type word meaning
    local typed=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=()
    while IFS=$'\t' read -r type word meaning; do
        case $type in
            plain) COMPREPLY+=("${word#--*=}") ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
        esac
    done < <(_SMP_COMPLETE=bash "${1/#\~/$HOME}" "$typed" 2>/dev/null)
}

# bash 3 and some of 4 know no nosort.
complete -o nosort -F _smp smp 2>/dev/null || complete -o default -F _smp smp
