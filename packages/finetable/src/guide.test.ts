/**
 * Every code block of the README and the guide, run as it stands: what a block is and what is done with it says `testing/markdown.ts`. The ten minutes
 * come first; every other page begins in a copy of the folder that they leave, and goes from block to block.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { matrix, RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { batchJsonSchema, jobJsonSchema, readBatch, readJob } from '@finetable/trainer';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { blocksOf, tells, type Block } from './testing/markdown.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const venv = join(root, '.cache/venv');
const lib = join(venv, 'lib');
const pythonModules = new Set(
  existsSync(lib) ? readdirSync(lib).flatMap((version) => readdirSync(join(lib, version, 'site-packages'))) : [],
);
const first = 'docs/guide/02-ten-minutes.md';
const chapters = (await readdir(join(root, 'docs/guide'))).filter((name) => name.endsWith('.md')).sort();
const only = process.env.FINETABLE_GUIDE; // pages by a part of their name, while one is written
const pages = ['README.md', ...chapters.map((name) => `docs/guide/${name}`)].filter(
  (page) => page === first || page.includes(only ?? ''),
);
const blocks = new Map(
  await Promise.all(pages.map(async (page) => [page, blocksOf(await readFile(join(root, page), 'utf8'))] as const)),
);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-guide-'));
  await mkdir(join(folder, 'bin'));
  await symlink(join(root, 'packages/finetable/bin/finetable.js'), join(folder, 'bin/finetable'));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await mkdir(join(folder, 'ten-minutes'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What other pages find beside what the ten minutes leave: what a reader would bring along. */
async function bringAlong(into: string): Promise<void> {
  const rows = matrix(200, 16);
  new RandomStream(1, 'items').fillNormal(rows.data);
  await writeSafetensors(join(into, 'items.safetensors'), [
    { name: 'items', dtype: 'F32', shape: [200, 16], data: rows.data },
  ]);
  await cp(join(root, 'packages/formats/test/keras/functional.keras'), join(into, 'model.keras'));
  await cp(join(root, 'packages/formats/test/keras/functional.h5'), join(into, 'model.h5'));
  await cp(join(root, 'packages/data/test/static/m2v-wordpiece'), join(into, 'potion-base-8M'), { recursive: true });
}

/** @returns what it printed on stdout */
async function runBlock({ kind, code, name }: Block, cwd: string): Promise<string> {
  const env = {
    ...process.env,
    PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
    COLUMNS: '160',
    FORCE_COLOR: undefined,
  };
  const start = async (command: string, ...args: string[]): Promise<string> =>
    (await promisify(execFile)(command, args, { cwd, env, maxBuffer: 2 ** 26 })).stdout;
  switch (kind) {
    case 'file':
      await writeFile(join(cwd, name!), code);
      if (/\.yaml$/.test(name!)) await checkFields(code, join(cwd, name!));
      return '';
    case 'sh':
      return start('bash', '-euo', 'pipefail', '-c', code);
    case 'program': {
      const { outputText } = ts.transpileModule(code, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } }); // prettier-ignore
      const file = join(cwd, '.program.mjs');
      await writeFile(file, outputText);
      return start(process.execPath, file);
    }
    case 'python':
      return start(join(venv, 'bin/python'), '-c', code);
    case 'fields':
      await checkFields(code);
      return '';
    default:
      return kind satisfies never;
  }
}

const schemas = [jobJsonSchema(), batchJsonSchema()].map((schema) => z.fromJSONSchema({ ...schema, required: [] }));

/** A whole job or batch is checked as one; a part of one by the published schemas. */
async function checkFields(code: string, file?: string): Promise<void> {
  const fields = parse(code, { merge: true }) as Record<string, unknown>;
  if (file !== undefined && 'objective' in fields) await readJob(file);
  else if (file !== undefined) await readBatch(file);
  const [job, batch] = schemas.map((schema) => schema.safeParse(fields));
  if (!job!.success && !batch!.success)
    throw new Error(`no fields of a job: ${job!.error}\nnor of a batch: ${batch!.error}`);
}

function whyNot(block: Block): string | null {
  if (block.skip !== null) return block.skip;
  if (block.kind !== 'python') return null;
  const missing = [...block.code.matchAll(/^(?:import|from) (\w+)/gm)].find(([, name]) => !pythonModules.has(name!));
  return missing ? `no Python module ${missing[1]}: node tools/peers/setup.mjs prepares them where it can` : null;
}

async function runPage(page: string, cwd: string): Promise<void> {
  for (const block of blocks.get(page)!) {
    if (whyNot(block) !== null) continue;
    const where = `${page}, line ${block.line}`;
    const printed = await runBlock(block, cwd).catch((error: { stdout?: string; stderr?: string; message: string }) => {
      throw new Error(`${where}: ${error.stderr ?? error.message}\n${error.stdout ?? ''}`);
    });
    if (block.prints !== null && !tells(block.prints, printed))
      expect.soft(printed, `${where}: what it prints`).toBe(block.prints);
  }
}

test('what is generated from the schema is up to date', async () => {
  await promisify(execFile)(process.execPath, [join(root, 'tools/docs/schema.mjs'), '--check']);
});

test('the ten minutes', { timeout: 300_000 }, async () => {
  await runPage(first, join(folder, 'ten-minutes'));
});

describe.concurrent('pages', { timeout: 300_000 }, () => {
  test.for(pages.filter((page) => page !== first && blocks.get(page)!.length > 0))('%s', async (page) => {
    const cwd = join(folder, page.replaceAll(/\W/g, '-'));
    await cp(join(folder, 'ten-minutes'), cwd, { recursive: true });
    await bringAlong(cwd);
    await runPage(page, cwd);
  });
});

describe('not run', () => {
  const skipped = pages.flatMap((page) =>
    blocks.get(page)!.flatMap((block) => {
      const reason = whyNot(block);
      return reason === null ? [] : [{ where: `${page}, line ${block.line}`, reason }];
    }),
  );
  test.for(skipped)('$where', ({ reason }, { skip }) => skip(reason));
  test('a block that is left out says why', () => {
    for (const { reason } of skipped) expect(reason).toMatch(/\w+ \w+/);
  });
});
