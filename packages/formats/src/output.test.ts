import { link, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkOutput } from './output.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'output-'));
});
afterEach(() => rm(folder, { recursive: true }));

test('an input is never an output, whatever it is called; another file is, if it may be overwritten', async () => {
  const [input, hard, soft, other, none] = ['in', 'hard', 'soft', 'other', 'none'].map((name) => join(folder, name));
  await writeFile(input!, 'x');
  await writeFile(other!, 'x');
  await link(input!, hard!);
  await symlink(input!, soft!);
  const inputs = [none!, input!];
  for (const path of [input!, hard!, soft!, `${folder}/./in`]) {
    for (const overwrite of [true, false])
      await expect(checkOutput(path, { inputs, overwrite })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  }
  await expect(checkOutput(other!, { inputs })).rejects.toMatchObject({ code: 'EXISTS', details: { file: other } });
  await checkOutput(other!, { inputs, overwrite: true });
  await checkOutput(none!, { inputs });
  await checkOutput(join(input!, 'below a file'), { inputs });
});
