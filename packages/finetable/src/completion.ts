/** `finetable completion`: a script for the shell, made of the commands and options that there are. */
import type { Command } from 'commander';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

/** The script: commands at the first word, options where a word begins with "-", else files. */
export function completion(program: Command, shell: Shell): string {
  const commands = program.commands.map((command) => ({
    name: command.name(),
    description: command.description().replaceAll("'", ''),
    options: command.options.flatMap(({ long, description }) =>
      long ? [{ long, description: description.replaceAll("'", '') }] : [],
    ),
  }));
  const names = commands.map(({ name }) => name).join(' ');
  switch (shell) {
    case 'bash':
    case 'zsh': {
      const cases = commands.map(
        ({ name, options }) => `    ${name}) options='${options.map(({ long }) => long).join(' ')} --help' ;;`,
      );
      return `${shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : ''}_finetable() {
  local word=\${COMP_WORDS[COMP_CWORD]} options=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${names} --help --version' -- "$word"))
    return
  fi
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
  esac
  case $word in -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;; esac
}
complete -o default -F _finetable finetable
`;
    }
    case 'fish':
      return commands
        .flatMap(({ name, description, options }) => [
          `complete -c finetable -n __fish_use_subcommand -a ${name} -d '${description}'`,
          ...options.map(
            ({ long, description }) =>
              `complete -c finetable -n '__fish_seen_subcommand_from ${name}' -l ${long.slice(2)} -d '${description}'`,
          ),
        ])
        .map((line) => `${line}\n`)
        .join('');
    default:
      return shell satisfies never;
  }
}
