/**
 * What a `tokenizer.json` asks for, put in terms that the JavaScript library does exactly as the Rust one, or refused.
 *
 * `@huggingface/tokenizers` 0.2 departs from `tokenizers` (Rust, Python) in places; each rewriting here names its own. Post-
 * processors and decoders are dropped: static embeddings add no special tokens and decode nothing.
 * `Precompiled` normalisers, which the library takes for NFKC, are done by `precompiledNormalizer`.
 */
import { show } from '../errors.ts';
import { precompiledNormalizer } from './precompiled.ts';

/** Throws an error that names the file; default UNSUPPORTED. */
export type Refuse = (problem: string, code?: 'UNSUPPORTED' | 'INVALID_FILE') => never;

type Json = Record<string, unknown>;

export interface TokenizerSettings {
  /** For the library. */
  readonly json: object;
  /** Whether neighbouring unknown pieces of a word are one unknown token. */
  readonly fuseUnknown: boolean;
  /** Characters that are no tokens are left out before others are joined, where the library would join none across them. */
  readonly dropCharacters: boolean;
  /** Null: none, so that what is unknown is left out. */
  readonly unknownToken: string | null;
  readonly truncation: { readonly maxTokens: number; readonly keep: 'first' | 'last' } | null;
}

export function tokenizerSettings(value: unknown, refuse: Refuse): TokenizerSettings {
  if (!isObject(value)) return refuse(`the JSON is ${show(value)}; allowed: an object`, 'INVALID_FILE');
  const model = checkModel(value.model, refuse);
  const vocabulary = model.vocab;
  const unknown = Array.isArray(vocabulary)
    ? typeof model.unk_id === 'number'
      ? (vocabulary[model.unk_id] as [string, number] | undefined)?.[0]
      : null
    : model.unk_token;
  return {
    json: {
      added_tokens: checkAddedTokens(value.added_tokens ?? [], refuse),
      normalizer: normalizer(value.normalizer ?? null, refuse),
      pre_tokenizer: preTokenizer(value.pre_tokenizer ?? null, refuse),
      model,
      post_processor: null,
      decoder: null,
    },
    // The library joins them across words too.
    fuseUnknown: model.type === 'Unigram' || model.fuse_unk === true,
    dropCharacters: model.type === 'BPE' && typeof unknown !== 'string' && model.byte_fallback !== true,
    unknownToken: typeof unknown === 'string' ? unknown : null,
    truncation: readTruncation(value.truncation ?? null, refuse),
  };
}

const models = ['WordPiece', 'BPE', 'Unigram', 'WordLevel'];

function checkModel(value: unknown, refuse: Refuse): Json {
  if (!isObject(value)) return refuse(`model is ${show(value)}; allowed: an object`, 'INVALID_FILE');
  // Files of old name no type; it then follows from the members, as it does in the library.
  const type =
    value.type ??
    (Array.isArray(value.vocab)
      ? 'Unigram'
      : 'merges' in value
        ? 'BPE'
        : 'continuing_subword_prefix' in value
          ? 'WordPiece'
          : 'WordLevel');
  if (!models.includes(type as string)) return refuse(`model ${show(type)}; allowed: ${models.join(', ')}`);
  const model = { ...value, type };
  const only = (member: string, allowed: readonly unknown[]): void => {
    const found = value[member] ?? null;
    if (found !== null && !allowed.includes(found)) refuse(`model.${member} is ${show(found)}; allowed: null or ${show(allowed[0])}`); // prettier-ignore
  };
  if (type === 'BPE') {
    only('dropout', [0]);
    only('continuing_subword_prefix', ['']);
    if (typeof value.unk_token !== 'string') only('end_of_word_suffix', ['']);
    if (!Array.isArray(value.merges)) refuse(`model.merges is ${show(value.merges)}; allowed: a list`, 'INVALID_FILE');
  }
  if (type === 'Unigram') only('byte_fallback', [false]);
  checkVocabulary(value.vocab, type === 'Unigram', refuse);
  return model;
}

function checkVocabulary(vocabulary: unknown, list: boolean, refuse: Refuse): void {
  if (list) {
    const good = (entry: unknown): boolean =>
      Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number';
    if (!Array.isArray(vocabulary) || vocabulary.length === 0)
      refuse('model.vocab must be a list of [token, score]', 'INVALID_FILE');
    const bad = (vocabulary as unknown[]).findIndex((entry) => !good(entry));
    if (bad >= 0)
      refuse(
        `model.vocab has ${show((vocabulary as unknown[])[bad])} at ${bad}; allowed: [token, score]`,
        'INVALID_FILE',
      );
    return;
  }
  if (!isObject(vocabulary))
    refuse(`model.vocab is ${show(vocabulary)}; allowed: an object of token: id`, 'INVALID_FILE');
  for (const [token, id] of Object.entries(vocabulary as Json)) {
    if (!isId(id))
      refuse(`model.vocab gives ${show(token)} the id ${show(id)}; allowed: integers from 0`, 'INVALID_FILE');
  }
}

function checkAddedTokens(value: unknown, refuse: Refuse): Json[] {
  if (!Array.isArray(value)) return refuse(`added_tokens is ${show(value)}; allowed: a list`, 'INVALID_FILE');
  return value.map((token: unknown) => {
    if (!isObject(token) || typeof token.content !== 'string' || !isId(token.id)) {
      return refuse(`added_tokens has ${show(token)}; allowed: an object with content and id`, 'INVALID_FILE');
    }
    // The library would find it inside words.
    if (token.single_word === true) refuse(`added token ${show(token.content)} has single_word; allowed: false`);
    return token;
  });
}

function normalizer(value: unknown, refuse: Refuse): Json | null {
  if (value === null) return null;
  if (!isObject(value)) return refuse(`normalizer is ${show(value)}; allowed: null or an object`, 'INVALID_FILE');
  const { type } = value;
  switch (type) {
    case 'Sequence':
      return sequence(
        'normalizers',
        members(value, 'normalizers', refuse).map((item) => normalizer(item, refuse)),
      );
    case 'Lowercase':
      return sequence('normalizers', [smallSigma, value]);
    case 'BertNormalizer':
      return sequence('normalizers', [
        ...(value.lowercase === true ? [smallSigma] : []),
        ...(value.handle_chinese_chars === true ? [rareIdeographs] : []),
        value,
      ]);
    case 'Replace':
      if (typeof value.content !== 'string')
        return refuse(`normalizer Replace has content ${show(value.content)}; allowed: text`, 'INVALID_FILE');
      // In a JavaScript replacement, $ has a meaning.
      return { ...value, pattern: pattern(value.pattern, refuse), content: value.content.replaceAll('$', '$$$$') };
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
    case 'Strip':
    case 'StripAccents':
    case 'Prepend':
      return value;
    case 'Precompiled':
      if (typeof value.precompiled_charsmap === 'string' && precompiledNormalizer(value.precompiled_charsmap)) return value;
      return refuse(`normalizer Precompiled has precompiled_charsmap ${show(value.precompiled_charsmap)}; allowed: a trie and its replacements, in base64`, 'INVALID_FILE'); // prettier-ignore
    default:
      return refuse(`normalizer ${show(type)} is not supported`);
  }
}

/** `toLowerCase` minds the end of a word, where sigma has another form; the Rust library goes by characters. */
const smallSigma: Json = { type: 'Replace', pattern: { String: 'Σ' }, content: 'σ' };

/** The library looks at UTF-16 units, and so finds no ideograph beyond U+FFFF. Blocks: those of BERT's own tokenizer. */
const rareIdeographs: Json = {
  type: 'Replace',
  pattern: {
    Regex:
      '[\\x{20000}-\\x{2A6DF}\\x{2A700}-\\x{2B73F}\\x{2B740}-\\x{2B81F}\\x{2B820}-\\x{2CEAF}\\x{2F800}-\\x{2FA1F}]',
  },
  content: ' $& ',
};

function preTokenizer(value: unknown, refuse: Refuse): Json | null {
  if (value === null) return null;
  if (!isObject(value)) return refuse(`pre_tokenizer is ${show(value)}; allowed: null or an object`, 'INVALID_FILE');
  const { type } = value;
  switch (type) {
    case 'Sequence':
      return sequence(
        'pretokenizers',
        members(value, 'pretokenizers', refuse).map((item) => preTokenizer(item, refuse)),
      );
    case 'BertPreTokenizer':
    case 'ByteLevel':
      return value;
    // The library's \w, \s and \d are those of JavaScript; patterns it translates.
    case 'Whitespace':
      // Rust counts the joiners U+200C and U+200D among \w.
      return matches('[\\w\\u200C\\u200D]+|[^\\w\\s\\u200C\\u200D]+');
    case 'WhitespaceSplit':
      return matches('\\S+');
    case 'Digits':
      return isolated(value.individual_digits === true ? '\\p{N}' : '\\p{N}+');
    case 'Punctuation':
      // The library joins neighbours whatever the behaviour is.
      if (value.behavior === 'Contiguous') return isolated(`${punctuation}+`);
      if (value.behavior === 'Removed') return { ...isolated(punctuation), behavior: 'Removed' };
      if ((value.behavior ?? 'Isolated') === 'Isolated') return isolated(punctuation);
      return refuse(
        `pre_tokenizer Punctuation has behavior ${show(value.behavior)}; allowed: "Isolated", "Contiguous", "Removed"`,
      );
    case 'Metaspace': {
      const { replacement = '▁' } = value;
      if (typeof replacement !== 'string' || [...replacement].length !== 1) return refuse(`pre_tokenizer Metaspace has replacement ${show(replacement)}; allowed: one character`, 'INVALID_FILE'); // prettier-ignore
      const scheme = value.prepend_scheme ?? (value.add_prefix_space === false ? 'never' : 'always');
      // The library takes the first word after an added token for the first of the text.
      if (scheme !== 'always' && scheme !== 'never') return refuse(`pre_tokenizer Metaspace has prepend_scheme ${show(scheme)}; allowed: "always", "never"`); // prettier-ignore
      const metaspace = { type, replacement, prepend_scheme: scheme };
      if (value.split === false) return metaspace;
      const mark = escape(replacement);
      // The library does not split, so that a token could go past the end of a word.
      return sequence('pretokenizers', [metaspace, matches(`${mark}[^${mark}]*|[^${mark}]+`)]);
    }
    case 'Split': {
      const { behavior, invert = false } = value;
      if (behavior !== 'Removed' && !(behavior === 'Isolated' && invert === false)) {
        return refuse(`pre_tokenizer Split has behavior ${show(behavior)}${invert === true ? ', inverted' : ''}; allowed: "Isolated" not inverted, "Removed"`); // prettier-ignore
      }
      return { type, pattern: pattern(value.pattern, refuse), behavior, invert };
    }
    default:
      return refuse(`pre_tokenizer ${show(type)} is not supported`);
  }
}

/** As the library has it for BERT: the category P, and all of ASCII's. */
const punctuation = '[\\p{P}\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E]';

const matches = (regex: string): Json => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Removed',
  invert: true,
});
const isolated = (regex: string): Json => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
});
const sequence = (member: string, items: readonly unknown[]): Json => ({ type: 'Sequence', [member]: items });
const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');

/** Text as a pattern too: the library keeps separators that are text even where they are to be removed. */
function pattern(value: unknown, refuse: Refuse): Json {
  if (isObject(value) && typeof value.Regex === 'string') return { Regex: value.Regex };
  if (isObject(value) && typeof value.String === 'string') return { Regex: escape(value.String) };
  return refuse(`pattern is ${show(value)}; allowed: {"Regex": text} or {"String": text}`, 'INVALID_FILE');
}

function members(value: Json, member: string, refuse: Refuse): unknown[] {
  const list = value[member];
  return Array.isArray(list) ? list : refuse(`${member} is ${show(list)}; allowed: a list`, 'INVALID_FILE');
}

function readTruncation(value: unknown, refuse: Refuse): TokenizerSettings['truncation'] {
  if (value === null) return null;
  const { max_length: maxTokens, direction = 'Right' } = isObject(value) ? value : {};
  if (!isId(maxTokens))
    return refuse(`truncation is ${show(value)}; allowed: null, or an object with max_length`, 'INVALID_FILE');
  if (direction !== 'Right' && direction !== 'Left') return refuse(`truncation.direction is ${show(direction)}; allowed: "Right", "Left"`); // prettier-ignore
  return { maxTokens, keep: direction === 'Right' ? 'first' : 'last' };
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const isId = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0x7fffffff;
