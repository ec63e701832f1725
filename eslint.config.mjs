import { defineConfig } from 'eslint/config';
import nx from '@nx/eslint-plugin';
import tseslint from 'typescript-eslint';

// Import order of the packages: each may import only those before it.
const layers = ['core', 'kernels', 'formats', 'placement', 'lora', 'data', 'trainer', 'webgpu', 'tfjs', 'cluster', 'finetable'];

export default defineConfig(
  { ignores: ['**/dist', '**/build', '**/node_modules', '**/test-output', 'docs/site'] },
  ...tseslint.configs.strict,
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { project: ['tsconfig.test.json'], tsconfigRootDir: process.cwd() } },
    plugins: { '@nx': nx },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/only-throw-error': 'error',
      // Typed-array loops read `x[i]!` where the index is in range by construction.
      '@typescript-eslint/no-non-null-assertion': 'off',
      'no-console': 'error',
      '@nx/enforce-module-boundaries': [
        'error',
        {
          depConstraints: layers.map((layer, i) => ({
            sourceTag: `layer:${layer}`,
            onlyDependOnLibsWithTags: layers.slice(0, i + 1).map((name) => `layer:${name}`),
          })),
        },
      ],
    },
  },
);
