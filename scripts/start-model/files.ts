/**
 * The files of a start model beside its weights: vocabulary, tokenizer, chat template, configuration.
 *
 * One token per word: texts are words with spaces between them, numbers are words. A rendered conversation
 *   <bos> <user> 92 57 64 to 29 <assistant> ( 92 - 57 ) + 64 <end> <user> why <assistant>
 * has one token for each of its words. Hugging Face formats: tokenizers' WordLevel with a WhitespaceSplit
 * pre-tokenizer, and a Llama configuration.
 */
const SPECIAL_TOKENS = ['<pad>', '<bos>', '<end>', '<user>', '<assistant>', '<system>', '<unk>'] as const;

/** Each piece is followed by a space, so that a rendering starts with the rendering of any earlier turn. */
const CHAT_TEMPLATE =
  '{{ bos_token }} ' +
  '{% for message in messages %}' +
  "{% if message.role == 'assistant' %}<assistant> {{ message.content }} <end> " +
  "{% elif message.role == 'user' %}<user> {{ message.content }} " +
  "{% elif message.role == 'system' %}<system> {{ message.content }} " +
  "{% else %}{{ raise_exception('role: expected system, user or assistant') }}" +
  '{% endif %}{% endfor %}' +
  '{% if add_generation_prompt %}<assistant> {% endif %}';

const MAX_TOKENS = 256;
const [PAD, BOS, END] = [0, 1, 2];

/** What differs between the sizes of one recipe. Heads are 32 wide in all of them. */
export interface Shape {
  hidden: number;
  feedForward: number;
  layers: number;
}

/** `small` is the model that ships (378 thousand parameters); `large` has ten times as many (3.9 million). */
export const SHAPES = {
  small: { hidden: 96, feedForward: 256, layers: 3 },
  large: { hidden: 256, feedForward: 640, layers: 5 },
} as const satisfies Record<string, Shape>;

const HEAD_SIZE = 32;

/** The special tokens, then the words. */
export function vocabularyOf(words: readonly string[]): string[] {
  return [...SPECIAL_TOKENS, ...words];
}

/** File name to content, JSON. */
export function startModelFiles(
  words: readonly string[],
  { hidden, feedForward, layers }: Shape = SHAPES.small,
): Record<string, unknown> {
  const vocabulary = vocabularyOf(words);
  return {
    'config.json': {
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      vocab_size: vocabulary.length,
      hidden_size: hidden,
      intermediate_size: feedForward,
      num_hidden_layers: layers,
      num_attention_heads: hidden / HEAD_SIZE,
      num_key_value_heads: hidden / HEAD_SIZE,
      head_dim: HEAD_SIZE,
      hidden_act: 'silu',
      max_position_embeddings: MAX_TOKENS,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      attention_bias: false,
      mlp_bias: false,
      attention_dropout: 0,
      tie_word_embeddings: false,
      initializer_range: 0.02,
      dtype: 'bfloat16',
      bos_token_id: BOS,
      eos_token_id: END,
      pad_token_id: PAD,
    },
    'generation_config.json': { bos_token_id: BOS, eos_token_id: END, pad_token_id: PAD },
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: SPECIAL_TOKENS.map((content, id) => ({ id, content, ...PLAIN, special: true })),
      normalizer: null,
      pre_tokenizer: { type: 'WhitespaceSplit' },
      post_processor: null,
      decoder: null,
      model: {
        type: 'WordLevel',
        vocab: Object.fromEntries(vocabulary.map((word, id) => [word, id])),
        unk_token: '<unk>',
      },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: '<bos>',
      eos_token: '<end>',
      pad_token: '<pad>',
      unk_token: '<unk>',
      model_max_length: MAX_TOKENS,
      clean_up_tokenization_spaces: false,
      chat_template: CHAT_TEMPLATE,
    },
  };
}

const PLAIN = { single_word: false, lstrip: false, rstrip: false, normalized: false };
