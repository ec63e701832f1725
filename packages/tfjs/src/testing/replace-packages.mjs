// Preloaded into a child process: packages that are to be missing, or replaced by a file, as REPLACED_PACKAGES says: {"name": null | "/path"}.
import Module from 'node:module';

const replaced = JSON.parse(process.env.REPLACED_PACKAGES);
const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  const replacement = replaced[request];
  if (replacement === null)
    throw Object.assign(new Error(`Cannot find module '${request}'`), { code: 'MODULE_NOT_FOUND' });
  return resolve.call(this, replacement ?? request, ...rest);
};
