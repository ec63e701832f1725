/** What a package's install has built, as `buildAddon` of compile.mjs leaves it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** An addon, or why there is none. */
export type Built<Addon> = { readonly addon: Addon } | { readonly missing: string };

/**
 * Loads an addon of this or another package.
 * @param build the package's `build` folder, with a slash at its end
 * @param file the addon's name in it, or the address of another file
 * @returns what it exports, unchecked; where it does not load, the reason that the install wrote down, else the loader's
 */
export function loadBuilt<Addon>(build: URL, file: string): Built<Addon> {
  try {
    return { addon: createRequire(import.meta.url)(fileURLToPath(new URL(file, build))) as Addon };
  } catch (error) {
    return { missing: reasonOf(new URL('status.json', build)) ?? (error as Error).message.split('\n')[0]! };
  }
}

function reasonOf(statusFile: URL): string | undefined {
  try {
    return (JSON.parse(readFileSync(statusFile, 'utf8')) as { readonly reason?: string }).reason;
  } catch {
    return undefined;
  }
}
