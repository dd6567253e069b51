# bash completion for mirror-agent(8). It needs bash 4.1 or later and nothing else.
# tests/unit/test_completions.py runs it and compares what it offers with the program.

_mirror_agent() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev='' command='' word i
    local common='--help --root --config --json --color --debug --log-level --state-dir --run-dir --probe-dir'
    local commands='run check plan apply status explain import mirrors revert probe'
    COMPREPLY=()

    # readline makes three words of --root=DIR
    ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $cur == '=' ]]; then
        cur=''
    elif [[ $prev == '=' ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    case $prev in
        --root | --state-dir | --run-dir | --probe-dir)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        --config)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --color)
            mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$cur")
            return
            ;;
        --log-level)
            mapfile -t COMPREPLY < <(compgen -W 'debug info notice warning error' -- "$cur")
            return
            ;;
        --probe | --image | --timeout)
            return
            ;;
    esac

    local given=0
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
            --root | --config | --color | --log-level | --state-dir | --run-dir | --probe-dir | --image | --timeout)
                if [[ ${COMP_WORDS[i + 1]} == '=' ]]; then ((i += 2)); else ((i += 1)); fi
                ;;
            -?*) ;;
            *) if [[ -z $command ]]; then command=$word; else ((given += 1)); fi ;;
        esac
    done

    if [[ $cur == -* ]]; then
        [[ -z $command ]] && common+=' --version'
        [[ $command == status ]] && common+=' --prove --watch'
        [[ $command == mirrors ]] && common+=' --probe --image --content --timeout'
        mapfile -t COMPREPLY < <(compgen -W "$common" -- "$cur")
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
    elif ((given == 0)); then
        case $command in
            check)
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                ;;
            mirrors)
                # the catalogue's first column, down to the empty line behind the table
                word=$("$1" mirrors 2>/dev/null | awk 'NR > 1 { if (!NF) exit; print $1 }')
                mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur" | sort -u)
                ;;
        esac
    fi
}

complete -F _mirror_agent mirror-agent
