"""The refresh token of a saved Mailer block."""

from collections.abc import Collection

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.client.schemas.objects import BlockDocument

_MAILER = "tracktor-mailer"


def saved_refresh_token(name: str) -> str:
    """Return the present token of a saved Mailer."""
    with get_client(sync_client=True) as prefect:
        return _token_of(_document(prefect, name))


def save_refresh_token(name: str, token: str, *, known: Collection[str]) -> bool:
    """Save a token in place of a known one; return whether the block has it now."""
    with get_client(sync_client=True) as prefect:
        document = _document(prefect, name)
        if (saved := _token_of(document)) == token or saved not in known:
            return saved == token
        # this field only, as a person may be changing others; and the references, which the server
        # would drop
        references = {
            field: {"$ref": {"block_document_id": str(reference["block_document"]["id"])}}
            for field, reference in document.block_document_references.items()
        }
        changed = {"oauth2": document.data["oauth2"] | {"refresh_token": token}}
        update = BlockDocumentUpdate(data=changed | references, merge_existing_data=True)
        prefect.update_block_document(document.id, update)
        return True


def _document(prefect: SyncPrefectClient, name: str) -> BlockDocument:
    return prefect.read_block_document_by_name(name, _MAILER, include_secrets=True)


def _token_of(document: BlockDocument) -> str:
    return str((document.data.get("oauth2") or {}).get("refresh_token", ""))
