import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

test("without npm's webgpu: what to install", () => {
  const hide = `import Module from 'node:module';
    const resolve = Module._resolveFilename;
    Module._resolveFilename = function (request, ...rest) {
      if (request === 'webgpu') throw Object.assign(new Error('hidden'), { code: 'MODULE_NOT_FOUND' });
      return resolve.call(this, request, ...rest);
    };`;
  const program = `import { webgpuDevice } from '@finetable/webgpu';
    const { code, message, details } = await webgpuDevice({ software: true }).catch((error) => error);
    console.log(JSON.stringify({ code, message, details }));`;
  const { status, stdout } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(hide)}`, '--input-type=module', '-e', program],
    { encoding: 'utf8', cwd: fileURLToPath(new URL('..', import.meta.url)) },
  );
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toEqual({
    code: 'UNSUPPORTED',
    message: "@finetable/webgpu needs npm's webgpu (Dawn): npm install webgpu",
    details: { package: 'webgpu', missing: true },
  });
});
