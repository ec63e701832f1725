import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { runHere } from './testing/capture.ts';

const commands = [
  'init',
  'train',
  'batch',
  'compare',
  'plan',
  'evaluate',
  'inspect',
  'vocabulary',
  'convert',
  'merge',
  'unmerge',
  'nearest',
  'embed',
  'doctor',
];

test('the version is that of the package', async () => {
  const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(await runHere(['--version'])).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
});

test('help lists every command and the exit status', async () => {
  const { status, stdout } = await runHere(['--help']);
  expect(status).toBe(0);
  for (const command of commands) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
  expect(stdout).toContain('130 interrupted');
});

test.each(commands)('the help of %s describes every option and ends with an example', async (command) => {
  const { status, stdout, stderr } = await runHere([command, '--help']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(new RegExp(`Examples:\n  \\$ finetable ${command}`));
  const options = stdout.split('\n').filter((line) => /^ {2}--/.test(line));
  expect(options.length).toBeGreaterThan(0);
  for (const line of options) expect(line, 'has a description').toMatch(/^ {2}--[a-z-]+( <[^>]+>)? {2,}\S/);
});

test.each([
  [['trian', 'job.yaml'], "unknown command 'trian'", 'Did you mean train?'],
  [['train', 'job.yaml', '--resum'], "unknown option '--resum'", 'Did you mean --resume?'],
  [['train'], "missing required argument 'job'", ''],
  [['train', 'a.yaml', 'b.yaml'], 'too many arguments', ''],
  [['train', 'job.yaml', '--resume', '--overwrite'], "option '--resume' cannot be used with option '--overwrite'", ''],
  [['train', 'job.yaml', '--threads', '2.5'], "argument '2.5' is invalid. Allowed: an integer of 1 or more", ''],
  [['train', 'job.yaml', '--threads', '0'], 'Allowed: an integer of 1 or more', ''],
  [['evaluate', 'runs/x'], 'runs/x is not a run: it has no job.yaml', ''],
  [['convert', 'a.npy', 'b.safetensors', '--dtype', 'f64'], 'Allowed choices are f32, f16', ''],
])('%j is refused with status 2', async (argv, message, hint) => {
  const { status, stdout, stderr } = await runHere(argv);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toMatch(/^finetable: /);
  expect(stderr).toContain(message);
  expect(stderr).toContain(hint);
  expect(stderr, 'no stack').not.toContain('    at ');
});

test('no command at all shows the help, with status 2', async () => {
  const { status, stderr } = await runHere([]);
  expect(status).toBe(2);
  expect(stderr).toContain('Usage: finetable');
});

test('with --json an error of usage is an object on stdout too', async () => {
  const { status, stdout } = await runHere(['doctor', '--json', '--loud']);
  expect(status).toBe(2);
  expect(JSON.parse(stdout)).toEqual({
    error: { code: 'INVALID_ARGUMENT', message: "unknown option '--loud'", details: {} },
  });
});

test('in bash commands and options are completed, and else files', async (context) => {
  const { status, stdout } = await runHere(['completion', 'bash']);
  expect(status).toBe(0);
  const complete = async (...words: string[]): Promise<string[]> => {
    const script = `${stdout}\nCOMP_WORDS=(finetable ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _finetable; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const ran = await promisify(execFile)('bash', ['-c', script]).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return context.skip('no bash');
      throw error;
    });
    return ran.stdout.trim().split('\n');
  };
  expect(await complete('tr')).toEqual(['train']);
  expect(await complete('train', '--re')).toEqual(['--resume']);
  expect(await complete('train', 'job')).toEqual(['']);
  for (const shell of ['zsh', 'fish']) expect((await runHere(['completion', shell])).stdout).toContain('overwrite');
  expect(await runHere(['completion', 'csh'])).toMatchObject({ status: 2 });
});
