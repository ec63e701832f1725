/** Conversions that are stopped, that fail, and that are larger than their memory. */
import { spawnSync } from 'node:child_process';
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { writeNpy } from '@finetable/formats';
import { findRows } from '@finetable/placement';
import { expect, test, vi } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { cliPath } from '../testing/child.ts';
import { listTree, temporaryFolder } from '../testing/tiny-job.ts';

/** The signal is aborted when it has been asked so many times. */
function abortedAfter(times: number): AbortSignal {
  const signal = new AbortController().signal;
  let asked = 0;
  vi.spyOn(signal, 'aborted', 'get').mockImplementation(() => ++asked > times);
  return signal;
}

test('interrupted between chunks, or on a disk that refuses, it leaves nothing and what was there', async () => {
  const folder = await temporaryFolder();
  const [source, out] = [join(folder, 'a.npy'), join(folder, 'o.safetensors')];
  await writeNpy(source, { dtype: 'F32', shape: [3 * 2 ** 18, 4], data: new Float32Array(3 * 2 ** 20) });
  await writeFile(out, 'before');
  const before = await listTree(folder);
  const argv = ['convert', source, out, '--dtype', 'int8', '--overwrite'];
  for (const times of [0, 1, 2]) {
    const { status, stderr } = await runHere(argv, { signal: abortedAfter(times) });
    expect({ status, stderr }).toEqual({ status: 130, stderr: 'finetable: interrupted; nothing was written\n' });
    expect(await listTree(folder)).toEqual(before);
  }
  // Scales are written to the file, elements to the spool, and then copied: each of them meets the full disk.
  const handle = await open(source);
  await handle.close();
  const files = Object.getPrototypeOf(handle) as typeof handle;
  for (const method of ['write', 'appendFile', 'read'] as const) {
    const real = files[method] as (...args: unknown[]) => unknown;
    let calls = 0;
    const spy = vi.spyOn(files, method as 'write').mockImplementation(function (this: unknown, ...args: unknown[]) {
      calls++;
      if (calls < 3) return real.apply(this, args) as never;
      return Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) as never;
    });
    const { status, stderr } = await runHere(argv);
    spy.mockRestore();
    expect({ status, told: stderr.includes('(ENOSPC): no space is left on the disk') }).toEqual({
      status: 1,
      told: true,
    });
    expect(await listTree(folder)).toEqual(before);
    expect(await readFile(out, 'utf8')).toBe('before');
  }
  expect((await runHere(argv)).status).toBe(0);
  expect(await listTree(folder)).toEqual(before);
  expect(await findRows(out)).toMatchObject({ dtype: 'int8', rows: 3 * 2 ** 18 });
});

test('memory does not grow with the table', async () => {
  const folder = await temporaryFolder();
  const peakBytes = async (rows: number): Promise<number> => {
    const source = join(folder, `${rows}.npy`);
    await writeNpy(source, { dtype: 'F16', shape: [1, 256], data: new Uint16Array(256) });
    const header = (await readFile(source)).toString('latin1').slice(0, -512);
    await writeFile(
      source,
      header.replace(/\(1, 256\)( *), \}( *)/, (_, a: string, b: string) => {
        const shape = `(${rows}, 256)${a}, }`;
        return shape.padEnd(`(1, 256)${a}, }${b}`.length);
      }),
      'latin1',
    );
    await truncate(source, header.length + rows * 512);
    // The command line as it runs, and the most memory it had when it ends.
    const script = `import(${JSON.stringify(pathToFileURL(cliPath).href)}); process.on('exit', () => console.error('peak ' + process.resourceUsage().maxRSS));`;
    const argv = ['convert', source, join(folder, 'o.safetensors'), '--dtype', 'int8', '--overwrite'];
    const { stderr, status } = spawnSync(process.execPath, ['-e', script, 'finetable', ...argv], { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    return 1024 * Number(/^peak (\d+)$/m.exec(stderr)![1]);
  };
  // Of two, since on a busy machine garbage is collected late.
  const least = async (rows: number): Promise<number> => Math.min(await peakBytes(rows), await peakBytes(rows));
  const grown = (await least(80_000)) - (await least(8_000));
  // 39 MiB more in the file, 78 MiB more as f32.
  expect(grown).toBeLessThan(16 * 2 ** 20);
});
