//! Transactions and multi-reads. Each operation, and each result, stands behind a header of
//! number, end mark and error; a header of (−1, true, −1) ends the list.

use bytes::{BufMut, BytesMut};

use super::jute::{DecodeError, Decoder, Encoder};
use super::records::{put_stat, take_stat};
use super::request::{
    BodyError, number_of, op, put_op, take_check, take_create, take_delete, take_set_data,
};
use crate::model::limits::MULTI_OPS_MAX;
use crate::model::{Code, Create, Op, OpResult, ReadOp, ReadOpResult, Refusal};

/// The number of a result that is an error.
const ERROR: i32 = -1;

fn put_header(out: &mut BytesMut, number: i32, done: bool, error: i32) {
    out.put_i32(number);
    out.bool(done);
    out.put_i32(error);
}

fn put_end(out: &mut BytesMut) {
    put_header(out, -1, true, -1);
}

/// The number of the next item; `None` at the end of the list.
fn take_header(from: &mut Decoder) -> Result<Option<i32>, DecodeError> {
    let (number, done, _error) = (from.i32()?, from.bool()?, from.i32()?);
    Ok((!done).then_some(number))
}

/// Reads the operations of a transaction, and their numbers.
pub(super) fn take_ops(from: &mut Decoder) -> Result<(Vec<Op>, Vec<i32>), BodyError> {
    let (mut ops, mut numbers) = (Vec::new(), Vec::new());
    while let Some(number) = take_header(from)? {
        let malformed = DecodeError::BadValue { what: "operation of a transaction", value: number };
        let op = match number {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                match take_create(number, from) {
                    // In a transaction, flags that mean nothing make it unreadable, and so do
                    // those of a time to live where there is none.
                    Err(BodyError::BadFlags) => return Err(malformed.into()),
                    Ok(Op::Create(Create { mode, .. }))
                        if number != op::CREATE_TTL && mode.ttl_ms().is_some() =>
                    {
                        return Err(malformed.into());
                    }
                    create => create?,
                }
            }
            op::DELETE => take_delete(from)?,
            op::SET_DATA => take_set_data(from)?,
            op::CHECK => take_check(from)?,
            _ => return Err(malformed.into()),
        };
        if ops.len() >= MULTI_OPS_MAX {
            return Err(DecodeError::BadCount.into());
        }
        ops.push(op);
        numbers.push(number);
    }
    Ok((ops, numbers))
}

pub(super) fn put_ops(out: &mut BytesMut, ops: &[Op]) -> Vec<i32> {
    let numbers: Vec<i32> = ops.iter().map(number_of).collect();
    for (op, number) in ops.iter().zip(&numbers) {
        put_header(out, *number, false, -1);
        put_op(out, op);
    }
    put_end(out);
    numbers
}

/// Reads the reads of a multi-read, and their numbers.
pub(super) fn take_reads(from: &mut Decoder) -> Result<(Vec<ReadOp>, Vec<i32>), DecodeError> {
    let (mut reads, mut numbers) = (Vec::new(), Vec::new());
    while let Some(number) = take_header(from)? {
        // The watch flag of each means nothing here.
        let (path, _watch) = match number {
            op::GET_DATA | op::GET_CHILDREN => (from.path()?, from.bool()?),
            value => return Err(DecodeError::BadValue { what: "read of a multi-read", value }),
        };
        if reads.len() >= MULTI_OPS_MAX {
            return Err(DecodeError::BadCount);
        }
        reads.push(match number {
            op::GET_DATA => ReadOp::GetData { path },
            _ => ReadOp::Children { path },
        });
        numbers.push(number);
    }
    Ok((reads, numbers))
}

pub(super) fn put_reads(out: &mut BytesMut, reads: &[ReadOp]) -> Vec<i32> {
    let mut numbers = Vec::with_capacity(reads.len());
    for read in reads {
        let (number, path) = match read {
            ReadOp::GetData { path } => (op::GET_DATA, path),
            ReadOp::Children { path } => (op::GET_CHILDREN, path),
        };
        put_header(out, number, false, -1);
        out.string(path);
        out.bool(false);
        numbers.push(number);
    }
    put_end(out);
    numbers
}

/// The results of a transaction that was done.
pub(super) fn put_results(out: &mut BytesMut, results: &[OpResult], numbers: &[i32]) {
    for (result, number) in results.iter().zip(numbers) {
        match result {
            OpResult::Created { path, stat } => {
                // One of the first protocol is answered in its way, every other with a Stat.
                let first = *number == op::CREATE;
                put_header(out, if first { op::CREATE } else { op::CREATE2 }, false, 0);
                out.string(path);
                if !first {
                    put_stat(out, stat);
                }
            }
            OpResult::Deleted => put_header(out, op::DELETE, false, 0),
            OpResult::Set(stat) => {
                put_header(out, op::SET_DATA, false, 0);
                put_stat(out, stat);
            }
            OpResult::Checked => put_header(out, op::CHECK, false, 0),
        }
    }
    put_end(out);
}

/// The results of a transaction whose operation `index` was refused: 0 for those before, which
/// were undone, and −2 for those after, which were not tried.
pub(super) fn put_failure(out: &mut BytesMut, code: i32, index: usize, count: usize) {
    for place in 0..count {
        let error = match place.cmp(&index) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => code,
            std::cmp::Ordering::Greater => Code::RuntimeInconsistency.number(),
        };
        put_header(out, ERROR, false, error);
        out.put_i32(error);
    }
    put_end(out);
}

/// Whether a result under this number answers an operation under that one: a create is answered
/// under any number that creates.
fn answers(result: i32, operation: i32) -> bool {
    let creates = [op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL];
    result == ERROR
        || result == operation
        || (creates.contains(&result) && creates.contains(&operation))
}

/// The number of the next result; `None` at the end of the list. `numbers`: of the operations that
/// are yet to be answered.
fn take_result_header(
    from: &mut Decoder,
    numbers: &mut std::slice::Iter<'_, i32>,
) -> Result<Option<i32>, DecodeError> {
    match (take_header(from)?, numbers.next()) {
        (Some(result), Some(number)) if answers(result, *number) => Ok(Some(result)),
        (Some(value), Some(_)) => Err(DecodeError::BadValue { what: "result", value }),
        (None, None) => Ok(None),
        // Too many or too few.
        _ => Err(DecodeError::BadCount),
    }
}

/// Reads the results of a transaction, or its refusal.
pub(super) fn take_results(
    from: &mut Decoder,
    numbers: &[i32],
) -> Result<Result<Vec<OpResult>, Refusal>, DecodeError> {
    let mut results = Vec::new();
    let mut failed: Option<Refusal> = None;
    let mut place = 0;
    let mut unanswered = numbers.iter();
    while let Some(number) = take_result_header(from, &mut unanswered)? {
        match number {
            op::CREATE => {
                let (path, stat) = (from.path()?, Default::default());
                results.push(OpResult::Created { path, stat });
            }
            op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                results.push(OpResult::Created { path: from.path()?, stat: take_stat(from)? });
            }
            op::DELETE => results.push(OpResult::Deleted),
            op::SET_DATA => results.push(OpResult::Set(take_stat(from)?)),
            op::CHECK => results.push(OpResult::Checked),
            ERROR => {
                let error = from.i32()?;
                if error != 0 && failed.is_none() {
                    let code = Code::from_number(error);
                    failed = Some(Refusal { code, rule: code.rule(), index: Some(place) });
                }
            }
            value => return Err(DecodeError::BadValue { what: "result", value }),
        }
        place += 1;
    }
    match failed {
        Some(refusal) => Ok(Err(refusal)),
        None if results.len() == numbers.len() => Ok(Ok(results)),
        // One is neither done nor refused.
        None => Err(DecodeError::BadCount),
    }
}

pub(super) fn put_read_results(
    out: &mut BytesMut,
    results: &[Result<ReadOpResult, Code>],
    numbers: &[i32],
) {
    for (result, number) in results.iter().zip(numbers) {
        match result {
            Ok(ReadOpResult::Data { data, stat }) => {
                put_header(out, *number, false, 0);
                out.buffer(data.as_deref());
                put_stat(out, stat);
            }
            Ok(ReadOpResult::Children(names)) => {
                put_header(out, *number, false, 0);
                out.vector(names, |out, name| out.string(name));
            }
            Err(code) => {
                put_header(out, ERROR, false, code.number());
                out.put_i32(code.number());
            }
        }
    }
    put_end(out);
}

pub(super) fn put_no_results(out: &mut BytesMut) {
    put_end(out);
}

/// Reads the answers of a multi-read.
pub(super) fn take_read_results(
    from: &mut Decoder,
    numbers: &[i32],
) -> Result<Vec<Result<ReadOpResult, Code>>, DecodeError> {
    let mut results = Vec::new();
    let mut unanswered = numbers.iter();
    while let Some(number) = take_result_header(from, &mut unanswered)? {
        results.push(match number {
            op::GET_DATA => Ok(ReadOpResult::Data { data: from.buffer()?, stat: take_stat(from)? }),
            op::GET_CHILDREN => {
                let names = from.vector(4, Decoder::string)?.unwrap_or_default();
                Ok(ReadOpResult::Children(names))
            }
            ERROR => Err(Code::from_number(from.i32()?)),
            value => return Err(DecodeError::BadValue { what: "result", value }),
        });
    }
    Ok(results)
}
