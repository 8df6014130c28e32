import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { R3Error } from '../../lib/errors.ts';
import {
  decodeForwardBackwardOutput,
  decodeForwardBackwardRequest,
  decodeSampleResponse,
  encodeForwardBackwardOutput,
  encodeForwardBackwardRequest,
  encodeSampleResponse,
  type ForwardBackwardOutput,
  type ForwardBackwardRequest,
  type SampleResponse,
} from './messages.ts';
import { makeProtoWriter } from './protobuf.ts';

interface Case {
  name: string;
  message: 'ForwardBackwardRequest' | 'ForwardBackwardOutput' | 'SampleResponse';
  value: unknown;
  same_bytes: boolean;
  bytes: string;
}

/** Made by scripts/fixtures/tinker_messages.py with the official SDK's schema. */
const { cases } = JSON.parse(readFileSync('test/fixtures/tinker/messages.json', 'utf8')) as { cases: Case[] };
const DECODE = {
  ForwardBackwardRequest: decodeForwardBackwardRequest,
  ForwardBackwardOutput: decodeForwardBackwardOutput,
  SampleResponse: decodeSampleResponse,
};

function encode(message: Case['message'], value: unknown): Uint8Array {
  switch (message) {
    case 'ForwardBackwardRequest':
      return encodeForwardBackwardRequest(value as ForwardBackwardRequest);
    case 'ForwardBackwardOutput':
      return encodeForwardBackwardOutput(value as ForwardBackwardOutput);
    case 'SampleResponse':
      return encodeSampleResponse(value as SampleResponse);
    default:
      return message satisfies never;
  }
}

/** Plain lists for numbers, base64 for bytes: as the fixtures have them. */
function plain(value: unknown): unknown {
  if (value instanceof Float32Array || value instanceof Float64Array) return Array.from(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

const bytesOf = (write: (writer: ReturnType<typeof makeProtoWriter>) => void): Uint8Array => {
  const writer = makeProtoWriter();
  write(writer);
  return writer.finish();
};

/** What decoding does with bytes: the value, or `refused` for the one error that it may throw. */
function outcome(message: Case['message'], bytes: Uint8Array): unknown {
  try {
    return DECODE[message](bytes);
  } catch (error) {
    if (error instanceof R3Error && error.code === 'bad-answer') return 'refused';
    throw error;
  }
}

describe('messages of the official schema', () => {
  it.each(cases)('$message: $name', ({ message, value, bytes, same_bytes: isSame }) => {
    const encoded = Buffer.from(bytes, 'base64');
    const decoded = DECODE[message](encoded);
    expect(plain(decoded)).toEqual(value);
    if (isSame) expect(Buffer.from(encode(message, decoded)).toString('base64')).toBe(bytes);
  });

  it.each(cases)(
    'cut at any byte, $message ($name) is read or refused, never worse',
    ({ message, bytes }) => {
      const encoded = Buffer.from(bytes, 'base64');
      for (let size = 0; size < encoded.length; size++) outcome(message, encoded.subarray(0, size));
      expect(outcome(message, Buffer.concat([encoded, Buffer.from([0x0a])]))).toBe('refused');
    },
  );
});

describe('hostile bytes', () => {
  it('any bytes are read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const { message } of cases) outcome(message, bytes);
      }),
    );
  });

  it('a message with any byte changed is read or refused', () => {
    fc.assert(
      fc.property(fc.constantFrom(...cases), fc.nat(), fc.nat(255), ({ message, bytes }, at, byte) => {
        const encoded = Buffer.from(bytes, 'base64');
        if (encoded.length === 0) return;
        encoded[at % encoded.length] = byte;
        outcome(message, encoded);
      }),
      { numRuns: 2000 },
    );
  });

  const tensor = (write: (writer: ReturnType<typeof makeProtoWriter>) => void): Uint8Array =>
    bytesOf((writer) =>
      writer.message(3, () =>
        writer.message(2, () => (writer.text(1, 'weights'), writer.message(2, () => write(writer)))),
      ),
    );

  it.each([
    ['a length beyond the end', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x7f])],
    ['a number of eleven bytes', Buffer.from([0x10, ...new Array<number>(10).fill(0xff), 0x01])],
    ['field 0', Buffer.from([0x02, 0x00])],
    ['a group', Buffer.from([0x0b, 0x0c])],
    ['text that is not UTF-8', Buffer.from([0x0a, 0x02, 0xc3, 0x28])],
    ['a chunk of no kind', bytesOf((writer) => writer.message(3, () => writer.message(1, () => undefined)))],
    ['half a float', tensor((writer) => (writer.bytes(1, Buffer.alloc(6)), writer.integer(3, 1)))],
    ['values without a dtype', tensor((writer) => writer.bytes(1, Buffer.alloc(4)))],
    ['a dtype that is unknown', tensor((writer) => writer.integer(3, 9))],
    [
      'a shape that does not fit',
      tensor((writer) => (writer.bytes(1, Buffer.alloc(4)), writer.integer(3, 1), writer.integers(4, [2]))),
    ],
    ['a shape below 0', tensor((writer) => (writer.integer(3, 1), writer.integers(4, [-1, 0])))],
    [
      'an integer above 2^53',
      tensor((writer) => (writer.bytes(1, Buffer.from('0100000000002000', 'hex')), writer.integer(3, 2))),
    ],
    [
      'a sparse tensor that claims to be huge',
      tensor((writer) => {
        writer.message(2, () => writer.bytes(2, Buffer.alloc(16)));
        writer.integer(3, 1);
        writer.integers(4, [1, 2 ** 40]);
      }),
    ],
  ])('refused: %s', (_, bytes) => {
    expect(outcome('ForwardBackwardRequest', bytes)).toBe('refused');
  });

  it('a record that claims many datums is refused, and so is a stop reason that is unknown', () => {
    const many = bytesOf((writer) => writer.message(2, () => writer.integer(3, 2 ** 40)));
    expect(outcome('ForwardBackwardOutput', many)).toBe('refused');
    const odd = bytesOf((writer) => writer.message(1, () => writer.integer(1, 2)));
    expect(outcome('SampleResponse', odd)).toBe('refused');
  });

  it('a name such as __proto__ is a name', () => {
    const { metrics } = decodeForwardBackwardOutput(
      encodeForwardBackwardOutput({ outputType: 'x', outputs: [], metrics: JSON.parse('{"__proto__": 2}') }),
    );
    expect(Object.entries(metrics)).toEqual([['__proto__', 2]]);
  });
});

describe('what is written is read', () => {
  const float = fc.float({ noNaN: true });
  const tensor = fc.oneof(
    fc.array(float).map((data) => ({ dtype: 'float32' as const, data, shape: [data.length] })),
    fc.array(fc.maxSafeInteger()).map((data) => ({ dtype: 'int64' as const, data })),
  );
  const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  const bytes = fc.uint8Array().map((each) => Buffer.from(each).toString('base64'));
  const chunk = fc.oneof(
    fc.record({ type: fc.constant('text' as const), tokens: fc.array(int32) }),
    fc.record({ type: fc.constant('audio' as const), data: bytes }),
    fc.record(
      { type: fc.constant('image' as const), data: bytes, format: fc.string(), expectedTokens: int32 },
      { requiredKeys: ['type', 'data', 'format'] },
    ),
  );
  const numbers = fc.dictionary(fc.string(), fc.double({ noNaN: true }), { noNullPrototype: true });

  it('a request, through bytes', () => {
    const datum = fc.record({
      modelInput: fc.array(chunk),
      lossInputs: fc.dictionary(fc.string(), tensor, { noNullPrototype: true }),
    });
    const request = fc.record({
      modelId: fc.string({ unit: 'grapheme' }),
      seqId: fc.nat(2 ** 31 - 1),
      lossName: fc.string(),
      forwardOnly: fc.boolean(),
      lossConfig: numbers,
      data: fc.array(datum, { maxLength: 3 }),
    });
    fc.assert(
      fc.property(request, (value) => {
        const data = value.data.map((each) => ({
          ...each,
          modelInput: each.modelInput.map((one) =>
            one.type === 'text' ? one : { ...one, data: Buffer.from(one.data, 'base64') },
          ),
        }));
        const encoded = encodeForwardBackwardRequest({ ...value, data });
        expect(plain(decodeForwardBackwardRequest(encoded))).toEqual(value);
      }),
    );
  });

  it('an output of several datums, through bytes', () => {
    const row = fc.array(fc.tuple(float, float));
    fc.assert(
      fc.property(fc.array(row, { minLength: 1 }), numbers, (rows, metrics) => {
        const outputs = rows.map((each) => ({
          logprobs: { dtype: 'float32' as const, data: each.flat(), shape: [each.length, 2] },
          ids: { dtype: 'int64' as const, data: [each.length], shape: [1] },
        }));
        const value = { outputType: 'LossOutput', outputs, metrics };
        expect(plain(decodeForwardBackwardOutput(encodeForwardBackwardOutput(value)))).toEqual(value);
      }),
    );
  });

  it('a response, through bytes', () => {
    const sequence = fc.record({
      tokens: fc.array(int32),
      logprobs: fc.option(fc.array(float, { minLength: 1 })),
      stopReason: fc.constantFrom('stop' as const, 'length' as const),
    });
    const response = fc.record({
      sequences: fc.array(sequence),
      promptLogprobs: fc.option(fc.array(fc.option(float), { minLength: 1 })),
      cachedPromptTokens: fc.nat(),
    });
    fc.assert(
      fc.property(response, (value) => {
        expect(plain(decodeSampleResponse(encodeSampleResponse(value)))).toEqual(value);
      }),
    );
  });

  it('a shape of one field per number is read as a packed one is', () => {
    const bytesWith = (shape: (writer: ReturnType<typeof makeProtoWriter>) => void): Uint8Array =>
      bytesOf((writer) =>
        writer.message(3, () =>
          writer.message(2, () => {
            writer.text(1, 'weights');
            writer.message(2, () => {
              writer.bytes(1, Buffer.alloc(24));
              writer.integer(3, 1);
              shape(writer);
            });
          }),
        ),
      );
    const packed = bytesWith((writer) => writer.integers(4, [2, 3]));
    const single = bytesWith((writer) => (writer.integer(4, 2), writer.integer(4, 3)));
    expect(packed).not.toEqual(single);
    expect(decodeForwardBackwardRequest(single)).toEqual(decodeForwardBackwardRequest(packed));
    expect(decodeForwardBackwardRequest(single).data[0]?.lossInputs.weights?.shape).toEqual([2, 3]);
  });

  it('the newer form of the loss configuration is read, and a text in it is refused', () => {
    const withValue = (write: (writer: ReturnType<typeof makeProtoWriter>) => void): Uint8Array =>
      bytesOf((writer) =>
        writer.message(7, () => (writer.text(1, 'beta'), writer.message(2, () => write(writer)))),
      );
    expect(decodeForwardBackwardRequest(withValue((writer) => writer.double(1, 0.5))).lossConfig).toEqual({
      beta: 0.5,
    });
    expect(
      outcome(
        'ForwardBackwardRequest',
        withValue((writer) => writer.text(2, 'x')),
      ),
    ).toBe('refused');
  });
});
