import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

test('the example learns what no linear classifier can, and its run is evaluated', async () => {
  const script = fileURLToPath(new URL('../../../../examples/pairs/run.mjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script]);
  const lines = stdout.trim().split('\n');
  expect(lines.slice(0, -1).map((line) => line.split(':')[0])).toEqual(
    Array.from({ length: 6 }, (_, i) => `epoch ${i + 1}`),
  );
  const [, touched, accuracy] = /^(\d+) items touched; test accuracy (\d\.\d{3})$/.exec(lines.at(-1)!)!;
  expect(touched).toBe('200');
  expect(Number(accuracy)).toBeGreaterThan(0.97);
});
