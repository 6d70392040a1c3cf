package millrace.connect;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;

class BudgetTest {
    @Test
    void oneThatIsTooLargeWaitsToBeAlone() throws InterruptedException {
        Budget budget = new Budget(10_000);
        budget.take(5_000);
        assertFalse(budget.tryTake(50_000));
        budget.give(5_000);
        assertTrue(budget.tryTake(50_000));
        assertFalse(budget.tryTake(1));
    }

    @Test
    void nobodyWaitsForOneThatIsClosed() throws InterruptedException {
        Budget budget = new Budget(1);
        budget.take(1);
        budget.close();
        assertThrows(InterruptedException.class, () -> budget.take(1));
    }

    @Test
    void roomThatIsGivenBackWakesOneWhoWaits() throws InterruptedException {
        Budget budget = new Budget(2_000);
        budget.take(900);
        CountDownLatch took = new CountDownLatch(1);
        Thread waiter = new Thread(() -> {
            try {
                budget.take(900);
                took.countDown();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        });
        waiter.start();
        budget.give(900);
        assertTrue(took.await(10, TimeUnit.SECONDS));
    }
}
