/** The npm packages below a node_modules folder: their names, repositories and files. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * Every installed package, nested copies too, in the order of their paths. Links are left out: they are this
 * workspace's own packages.
 *
 * `repository` is `owner/name` from package.json, or the package's own name where there is none. Packages of one
 * repository share code, README and build tools, so they are split as one.
 *
 * @returns {{ name: string, version: string, repository: string, folder: string }[]}
 */
export function findPackages(nodeModules) {
  const packages = [];
  for (const name of folders(nodeModules)) {
    const names = name.startsWith('@') ? folders(path.join(nodeModules, name)).map((own) => `${name}/${own}`) : [name];
    for (const packageName of names) {
      const folder = path.join(nodeModules, packageName);
      const manifest = readManifest(path.join(folder, 'package.json'));
      if (manifest !== null) {
        const { version = '', repository } = manifest;
        packages.push({ name: packageName, version, repository: repositoryName(repository) ?? packageName, folder });
      }
      const nested = path.join(folder, 'node_modules');
      if (existsSync(nested)) packages.push(...findPackages(nested));
    }
  }
  return packages;
}

/** Paths of a package's files relative to its folder, with `/`, without those of the packages nested in it. */
export function filesOf(folder, below = '') {
  const files = [];
  for (const entry of readdirSync(path.join(folder, below), { withFileTypes: true })) {
    if (entry.isFile()) files.push(below + entry.name);
    else if (entry.isDirectory() && entry.name !== 'node_modules') files.push(...filesOf(folder, `${below}${entry.name}/`));
  }
  return files;
}

function folders(parent) {
  const entries = readdirSync(parent, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map((entry) => entry.name);
  return names.sort();
}

function readManifest(file) {
  if (!existsSync(file)) return null;
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/** `owner/name` in lower case, from any of the forms npm allows: a URL, `git@host:owner/name.git`, `owner/name`. */
function repositoryName(repository) {
  const url = typeof repository === 'string' ? repository : repository?.url;
  const match = /(?:^|[/:])([\w.-]+)\/([\w.-]+?)(?:\.git)?(?:\/tree\/.*|\/)?(?:#.*)?$/.exec(url ?? '');
  return match ? `${match[1]}/${match[2]}`.toLowerCase() : null;
}
