/** The npm packages below a node_modules folder: their names, repositories and files. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Every installed package, nested copies too, in the order of their paths. Links are left out: they are a workspace's
 * own packages.
 *
 * @returns {{ name: string, version: string, repository: string, folder: string }[]} `repository` is `owner/name` from
 * package.json, or the package's own name where it says none.
 */
export function findPackages(nodeModules) {
  const names = foldersIn(nodeModules).flatMap((name) =>
    name.startsWith('@') ? foldersIn(join(nodeModules, name)).map((inScope) => `${name}/${inScope}`) : [name],
  );
  return names.flatMap((name) => {
    const folder = join(nodeModules, name);
    const manifest = readManifest(join(folder, 'package.json'));
    const nested = join(folder, 'node_modules');
    const found = existsSync(nested) ? findPackages(nested) : [];
    if (manifest === null) return found;
    const { version = '', repository } = manifest;
    return [{ name, version, repository: repositoryName(repository) ?? name, folder }, ...found];
  });
}

/** Paths of a package's files, relative to its folder, without those of packages nested in it. */
export function filesOf(folder, below = '') {
  return sortedEntries(join(folder, below)).flatMap((entry) => {
    if (entry.isFile()) return [below + entry.name];
    return entry.isDirectory() && entry.name !== 'node_modules' ? filesOf(folder, `${below}${entry.name}/`) : [];
  });
}

function foldersIn(parent) {
  const folders = sortedEntries(parent).filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'));
  return folders.map((entry) => entry.name);
}

function sortedEntries(folder) {
  return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function readManifest(file) {
  if (!existsSync(file)) return null;
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null; // some packages ship broken ones as test data
  }
}

/** `owner/name` in lower case from any form that npm allows: a URL, `git@host:owner/name.git`, `owner/name`. */
function repositoryName(repository) {
  const url = typeof repository === 'string' ? repository : repository?.url;
  const match = /(?:^|[/:])([\w.-]+)\/([\w.-]+?)(?:\.git)?(?:\/tree\/.*|\/)?(?:#.*)?$/.exec(url ?? '');
  return match ? `${match[1]}/${match[2]}`.toLowerCase() : null;
}
