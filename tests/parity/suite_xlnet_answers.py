"""What XLNet's two question-answering heads should answer, for make_suite.py.

transformers' pipeline masks nothing for tokenizers that pad on the left (`tok != 1 if question_first
else 0` is 0 for every token), takes the first token for <cls>, and crashes on the beam head. Here its
windows, its forward and its words are used, with the mask and <cls> that it means: question and special
tokens masked, <cls> (the last token) not, and <cls> the place of no answer.
"""

import numpy
import suite_calls
import torch
from suite_calls import ANSWER_OPTIONS, CONTEXT, TEXTS, call
from transformers import AutoTokenizer, XLNetForQuestionAnswering, XLNetForQuestionAnsweringSimple
from transformers.pipelines.question_answering import QuestionAnsweringPipeline, decode_spans

INPUTS = [["Where are the maps?", CONTEXT], ["Who visits Paris?", TEXTS[1]], ["что?", TEXTS[2]]]


def make_pipeline(kind, folder):
    model = kind.from_pretrained(folder, dtype=suite_calls.DTYPE).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.padding_side == "left"
    return QuestionAnsweringPipeline(model=model, tokenizer=tokenizer, device="cpu")


def windows(reader, question, context, max_seq_len=None, doc_stride=None):
    example = reader._args_parser(question=question, context=context)[0]
    for window in reader.preprocess(example, max_seq_len=max_seq_len, doc_stride=doc_stride):
        ids, sequences = window["input_ids"][0].numpy(), window["encoding"].sequence_ids
        masked = numpy.array([sequence != 0 for sequence in sequences])
        masked[ids == reader.tokenizer.cls_token_id] = False
        yield window, masked


def probabilities(logits, masked):
    values = numpy.where(masked, numpy.float32(-10000), logits)
    values = numpy.exp(values - values.max())
    return values / values.sum()


def span_candidates(reader, window, masked, count, max_answer_len):
    """(score, first token, last token), and the score of no answer."""
    inputs = {k: window[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        out = reader.model(**inputs)
    start = probabilities(out.start_logits[0].numpy(), masked)
    end = probabilities(out.end_logits[0].numpy(), masked)
    null = start[-1] * end[-1]
    start[-1] = end[-1] = 0
    found = decode_spans(start, end, count, max_answer_len, (~masked).astype(int))
    return [(float(p), int(s), int(e)) for s, e, p in zip(*found) if p > 0], float(null)


def beam_candidates(reader, window, masked, _, max_answer_len):
    inputs = {k: window[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    last = torch.tensor([len(masked) - 1])
    with torch.no_grad():
        out = reader.model(**inputs, p_mask=torch.tensor(masked[None], dtype=suite_calls.DTYPE), cls_index=last)
    starts, ends = out.start_top_index[0], out.end_top_index[0]
    # The ends of all starts lie in one row: end j of start i at j * start_n_top + i.
    num_starts = len(starts)
    inside = [sequence == 0 for sequence in window["encoding"].sequence_ids]
    found = []
    for i in range(num_starts):
        for j in range(len(ends) // num_starts):
            s, e = int(starts[i]), int(ends[j * num_starts + i])
            score = out.start_top_log_probs[0, i] * out.end_top_log_probs[0, j * num_starts + i]
            if s <= e < s + max_answer_len and inside[s] and inside[e]:
                found.append((float(score), s, e))
    return found, float(torch.sigmoid(out.cls_logits[0]))


def answer_one(reader, candidates_of, merges, question, context, top_k=1, max_answer_len=15,
               handle_impossible_answer=False, align_to_words=True, **window_options):
    answers, null_score = [], 1e6
    count = 2 * top_k + 10 if align_to_words else top_k
    for window, masked in windows(reader, question, context, **window_options):
        found, null = candidates_of(reader, window, masked, count, max_answer_len)
        null_score = min(null_score, null)
        for score, s, e in found:
            start, end = reader.get_indices(window["encoding"], s, e, 0, align_to_words)
            text = context[start:end]
            same = [a for a in answers if a[0].lower() == text.lower()] if merges else []
            if same:
                same[0][1] += score
            else:
                answers.append([text, score, start, end])
    if handle_impossible_answer:
        answers.append(["", null_score, 0, 0])
    return sorted(answers, key=lambda answer: -answer[1])[:top_k]


def answer(folder, kind, candidates_of, merges):
    reader = make_pipeline(kind, folder)
    calls = []
    for options in ANSWER_OPTIONS:
        expected = [answer_one(reader, candidates_of, merges, *pair, **options) for pair in INPUTS]
        calls.append(call("answer", INPUTS, expected, **options))
    return calls


def answer_simple(folder):
    return answer(folder, XLNetForQuestionAnsweringSimple, span_candidates, merges=True)


def answer_beam(folder):
    return answer(folder, XLNetForQuestionAnswering, beam_candidates, merges=False)
