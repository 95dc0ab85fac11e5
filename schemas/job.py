"""The job: what publishers put into the queue."""

from schemas.types import AppId, BillFileName, ContractModel
from schemas.types import bill_date as date_of


class DownloadJob(ContractModel):
    """Asks for one file of one developer account.

    The body is a UTF-8 JSON object of at most 64 KiB. Unknown fields are ignored; of duplicate keys the
    last counts.
    """

    app_id: AppId
    bill_file_name: BillFileName

    @property
    def bill_date(self) -> str:
        """The day of the bill, `yyyyMMdd`."""
        return date_of(self.bill_file_name)
