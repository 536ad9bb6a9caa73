"""The events of a response as the wire carries them."""

from trivium.gateway.v1 import responses_pb2 as pb

from gateway.responses.nouns import (
    Arguments,
    Cited,
    Event,
    ItemBegun,
    ItemDone,
    Numbered,
    Phase,
    Searching,
    Stage,
    Text,
    TextStage,
    Whole,
)
from gateway.responses.wire import to_citation, to_item, to_response

_PHASES = {
    Phase.IN_PROGRESS: pb.FILE_SEARCH_PHASE_IN_PROGRESS,
    Phase.SEARCHING: pb.FILE_SEARCH_PHASE_SEARCHING,
    Phase.COMPLETED: pb.FILE_SEARCH_PHASE_COMPLETED,
}


def event(told: Numbered, *, results: bool) -> pb.CreateResponseResponse:
    """One event, with the passages of a search if they are wanted."""
    message = _event(told.event, results)
    message.sequence_number = told.number
    return message


def _event(told: Event, results: bool) -> pb.CreateResponseResponse:
    match told:
        case Whole():
            return _whole(told.stage, to_response(told.response, results=results))
        case ItemBegun():
            item = pb.OutputItem(output_index=told.index, item=to_item(told.item, results=results))
            return pb.CreateResponseResponse(item_added=item)
        case ItemDone():
            item = pb.OutputItem(output_index=told.index, item=to_item(told.item, results=results))
            return pb.CreateResponseResponse(item_done=item)
        case Searching():
            progress = pb.FileSearchProgress(output_index=told.index, item=told.item, phase=_PHASES[told.phase])
            return pb.CreateResponseResponse(file_search=progress)
        case Text():
            return _text(told)
        case Arguments():
            arguments = pb.CallArguments(output_index=told.index, item=told.item, arguments=told.text)
            if told.whole:
                return pb.CreateResponseResponse(arguments_done=arguments)
            return pb.CreateResponseResponse(arguments_delta=arguments)
        case Cited():
            cited = pb.OutputCitation(
                output_index=told.index,
                item=told.item,
                annotation_index=told.place,
                citation=to_citation(told.citation),
            )
            return pb.CreateResponseResponse(citation_added=cited)


def _whole(stage: Stage, response: pb.Response) -> pb.CreateResponseResponse:
    match stage:
        case Stage.CREATED:
            return pb.CreateResponseResponse(created=response)
        case Stage.IN_PROGRESS:
            return pb.CreateResponseResponse(in_progress=response)
        case Stage.COMPLETED:
            return pb.CreateResponseResponse(completed=response)
        case Stage.INCOMPLETE:
            return pb.CreateResponseResponse(incomplete=response)
        case Stage.FAILED:
            return pb.CreateResponseResponse(failed=response)


def _text(told: Text) -> pb.CreateResponseResponse:
    text = pb.OutputText(
        output_index=told.index,
        item=told.item,
        text=told.text,
        citations=[to_citation(it) for it in told.citations],
        refused=told.refused,
    )
    match told.stage:
        case TextStage.BEGUN:
            return pb.CreateResponseResponse(part_added=text)
        case TextStage.DELTA:
            return pb.CreateResponseResponse(text_delta=text)
        case TextStage.DONE:
            return pb.CreateResponseResponse(text_done=text)
        case TextStage.WHOLE:
            return pb.CreateResponseResponse(part_done=text)
