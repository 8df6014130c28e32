import { describe, expect, test } from 'vitest';
import { gsm8k } from './gsm8k.ts';

const ROW = {
  question: 'Mia bakes 1,200 rolls and sells all but 25. How many does she sell?',
  answer: 'She keeps 25.\n1200 - 25 = <<1200-25=1175>>1175\n#### 1,175',
};
const problem = gsm8k.parseRow(ROW);

describe('gsm8k', () => {
  test('the gold number is read from the worked answer, without commas', () => {
    expect(problem.gold).toBe('1175');
    expect(gsm8k.parseRow({ ...ROW, answer: 'x\n#### -5' }).gold).toBe('-5');
    expect(gsm8k.parseRow({ ...ROW, answer: 'x\n#### 3.50' }).gold).toBe('7/2');
  });

  test('equal questions have equal ids, and an id of the row is kept', () => {
    expect(gsm8k.parseRow({ ...ROW, answer: '#### 1' }).id).toBe(problem.id);
    expect(gsm8k.parseRow({ ...ROW, question: 'Another?' }).id).not.toBe(problem.id);
    expect(gsm8k.parseRow({ ...ROW, id: 'a' }).id).toBe('a');
  });

  test.each([
    [{ question: 'x' }, 'row: expected question, answer, got question'],
    [{ question: '', answer: '#### 1' }, 'question: expected a text that is not empty, got ""'],
    [
      { question: 'x', answer: 'no mark' },
      'answer: expected a text with #### before its number, got "no mark"',
    ],
    [{ question: 'x', answer: '#### many' }, 'answer: expected a number after ####, got "#### many"'],
    [[1], 'row: expected an object, got [1]'],
  ])('%j is refused', (row, message) => {
    expect(() => gsm8k.parseRow(row)).toThrow(message);
  });

  test('a worked answer passes as a completion, and with another number it fails', () => {
    expect(gsm8k.verify(problem, ROW.answer)).toEqual({ ok: true });
    expect(gsm8k.verify(problem, `${ROW.answer}0`)).toEqual({
      ok: false,
      class: 'wrong answer',
      why: 'expected 1175, got 11750',
    });
    expect(gsm8k.verify(problem, 'I do not know')).toMatchObject({ ok: false, class: 'no answer' });
  });

  test('known answers are judged as they say', () => {
    for (const gold of ['18', '-5', '7/2', '0']) {
      for (const { answer, ok } of gsm8k.known({ ...problem, gold })) {
        expect(gsm8k.verify({ ...problem, gold }, answer).ok, `${gold}: ${answer}`).toBe(ok);
      }
    }
  });

  test('a row of answers has its gold as a number, a text or a worked answer', () => {
    for (const gold of [1175, '1,175', '$1175.00', ROW.answer]) {
      expect(gsm8k.answerRow({ gold, completion: '' }).problem.gold).toBe('1175');
    }
    expect(() => gsm8k.answerRow({ gold: 'many' })).toThrow('gold: expected a number, got "many"');
    expect(() => gsm8k.answerRow({ completion: '' })).toThrow('row: expected gold, got completion');
  });

  test('a row of answers may be one of the data set', () => {
    expect(gsm8k.answerRow({ ...ROW, completion: '' }).problem).toEqual(problem);
    expect(gsm8k.answerRow({ ...ROW, gold: 5, completion: '' }).problem.gold).toBe('5');
  });

  test('a reflection that names the number leaks it', () => {
    const leaks = (reflection: string): boolean =>
      gsm8k.answersIn(problem, reflection).some((answer) => gsm8k.verify(problem, answer).ok);
    expect(leaks('It should have been 1,175, not 1,225.')).toBe(true);
    expect(leaks('I added 25 where I should have taken it away.')).toBe(false);
  });

  test('the problem is posed with the form of its answer', () => {
    const [message] = gsm8k.pose(problem);
    expect(message?.content).toContain(ROW.question);
    expect(message?.content).toContain('#### 1234.5');
    expect(gsm8k.verify({ ...problem, gold: '1200' }, message?.content ?? '').ok).toBe(false);
    expect(() => gsm8k.prompts('paper')).toThrow('prompts: expected plain, got "paper"');
  });
});
